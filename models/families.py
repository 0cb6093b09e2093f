"""Families of backbones: how each writes a prompt, reads an image and counts positions."""

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace

from rewardhub.errors import ConfigError
from rewardhub.models.chat import IMAGE, SYSTEM, VIDEO, VISION_END, VISION_START
from rewardhub.models.pictures import ImageReader, NoImages, QwenImages
from rewardhub.models.style import CHATML, INST, INST_END, START, Style, Tags
from rewardhub.models.tiles import GemmaImages, IdeficsImages, InternImages, LlavaImages


@dataclass(frozen=True, slots=True)
class Variant:
    """The style of checkpoints whose chat template holds ``pattern``, and whose tokenizer has the token ``needs``."""

    style: Style
    pattern: str = ""
    needs: str = ""

    def fits(self, template: str, tokenizer: Container[str]) -> bool:
        known = not self.needs or self.needs in tokenizer
        return known and (not template or re.search(self.pattern, template, re.DOTALL) is not None)


@dataclass(frozen=True, slots=True)
class Family:
    """A model type of transformers.

    ``system`` is what the family's own template says where a prompt has no system message.
    ``image`` is the placeholder of image features, "" for a model of text; ``controls`` are further
    control tokens about images, and ``optional`` ones may be missing. A conversation starts with the first of
    ``begins`` that the tokenizer has, where the style names no start of its own. ``grid_positions`` says that rope
    has three positions per token. With ``whole_forward`` the model's own forward builds its masks, since
    image tokens attend to one another. ``capped`` attention holds its logits within a bound; ``experts`` are most of a
    model's weights and no linear layers. ``variants`` are the styles of repositories that share a model type, the
    first that fits is taken.
    """

    style: Style
    system: str = ""
    reader: type[ImageReader] = NoImages
    image: str = ""
    controls: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    begins: tuple[str, ...] = ()
    grid_positions: bool = False
    whole_forward: bool = False
    capped: bool = False
    experts: bool = False
    variants: tuple[Variant, ...] = ()

    @property
    def tokens(self) -> tuple[str, ...]:
        """All control tokens that the tokenizer has to know."""
        return tuple(filter(None, (*self.style.controls, self.image, *self.controls)))

    def begun_by(self, tokenizer: Container[str]) -> "Family":
        """The family with the beginning that this tokenizer has; raises ``ConfigError`` where it has none."""
        if not self.begins:
            return self
        begin = next((token for token in self.begins if token in tokenizer), None)
        if begin is None:
            raise ConfigError(f"the tokenizer has none of {', '.join(self.begins)}", field="path")
        return replace(self, style=replace(self.style, begin=begin))

    def written_by(self, template: str, tokenizer: Container[str]) -> "Family":
        """The family with the style of a chat template, whose text is looked at and never run; "" is none at hand.

        Raises ``ConfigError`` where the template writes turns in no way that is known.
        """
        if not self.variants:
            return self
        style = next((each.style for each in self.variants if each.fits(template, tokenizer)), None)
        if style is None:
            raise ConfigError("the checkpoint's chat template writes turns in a way that is not known", field="path")
        return replace(self, style=style)


GEMMA = Style(
    begin="<bos>", start="<start_of_turn>", end="<end_of_turn>", names=(("assistant", "model"),), system="first",
    trimmed="each", answers="none",
)  # fmt: skip
GEMMA_2 = replace(GEMMA, system="none")
LLAMA = Style(
    begin="<|begin_of_text|>", start="<|start_header_id|>", header="{role}", header_end="<|end_header_id|>",
    behind_header="\n\n", end="<|eot_id|>", behind="", names=(("tool", "ipython"),), trimmed="each",
    calls="parameters", answers="quoted",
)  # fmt: skip
LLAMA_3 = replace(LLAMA, names=(), calls="json", answers="role")
DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
"""What Llama 3.1 to 3.3 say first. Where a template would say today's date, it has this one for want of a clock."""
LLAMAS = (
    Variant(LLAMA, r"^(?!.*Cutting Knowledge Date).*ipython"),
    Variant(replace(LLAMA, lead=DATES), r"26 Jul 2024.*Cutting Knowledge Date: December 2023"),
    Variant(LLAMA_3, r"^(?!.*Cutting Knowledge Date).*start_header_id"),
    Variant(LLAMA),
)
"""Llama 3.1 without its dates, or no template at hand; 3.1 to 3.3; 3.0; others."""
MISTRAL = Style(
    begin="<s>", start="", end="</s>", behind="", spaced=True, system="first", calls="none", answers="none",
    tags=Tags(False, " ", (" ", " ")),
)  # fmt: skip
MISTRAL_3 = replace(MISTRAL, system="last", tags=Tags(True, "", (" ", "")))
SAYS = r"""message\[['"]content['"]\]"""
MISTRALS = (
    Variant(replace(MISTRAL_3, trimmed="answers"), rf"""['"]\[INST\] ['"].*{SAYS} ?\| ?trim ?\+ ?eos_token""", INST),
    Variant(MISTRAL_3, r"""['"]\[INST\] ['"].*['"]\[/INST\]['"]""", INST),
    Variant(replace(MISTRAL_3, spaced=False, tags=Tags(True)), r"""['"]\[INST\]['"].*['"]\[/INST\]['"]""", INST),
    Variant(MISTRAL, rf"""['"] \[INST\] ['"].*['"] \[/INST\]['"].*['"] ['"] ?\+ ?{SAYS} ?\+ ?eos_token ?-?\}}\}}"""),
    Variant(
        replace(MISTRAL, spaced=False, system="none", tags=Tags(False, "", (" ", " "))),
        rf"""['"]\[INST\] ['"].*['"] \[/INST\]['"].*\{{\{{-? ?{SAYS} ?\+ ?eos_token ?-?\}}\}}""",
    ),
)
"""By their chat templates: Mistral-7B-Instruct v0.3 as published first and later, Nemo; with tags that are no tokens
v0.2 and Mixtral-8x7B as published last, and as most reward models on them have it."""
NAMES = (("user", "User"), ("assistant", "Assistant"), ("system", "System"), ("tool", "Tool"))
IDEFICS = Style(start="", header="{role}:", end="<end_of_utterance>", names=NAMES, spaced=True)
TOOLS = replace(CHATML, answers="user")
QWEN_3 = replace(TOOLS, thinks="last")
QWEN_3_5 = replace(TOOLS, calls="xml", trimmed="whole", thinks="every")
TILE_NAMES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 11) for column in range(1, 11))

_qwen = Family(CHATML, "", QwenImages, IMAGE, (VISION_START, VISION_END, VIDEO), grid_positions=True)
_idefics = Family(
    IDEFICS, "", IdeficsImages, "<image>", ("<fake_token_around_image>",), ("<global-img>", *TILE_NAMES),
    begins=("<|begin_of_text|>", START),
)  # fmt: skip
_mistral = Family(MISTRAL, optional=(INST, INST_END), variants=MISTRALS)

FAMILIES: Mapping[str, Family] = {
    "qwen2_vl": replace(_qwen, system=SYSTEM),
    "qwen2_5_vl": replace(_qwen, system=SYSTEM),
    "qwen3_vl": replace(_qwen, style=TOOLS),
    "qwen3_5": replace(_qwen, style=QWEN_3_5),
    "internvl": Family(CHATML, "", InternImages, "<IMG_CONTEXT>", ("<img>", "</img>")),
    "llava_onevision": Family(CHATML, SYSTEM, LlavaImages, "<image>"),
    "gemma3": Family(
        GEMMA, "", GemmaImages, "<image_soft_token>", ("<start_of_image>", "<end_of_image>"), whole_forward=True
    ),
    "smolvlm": replace(_idefics, style=replace(IDEFICS, begin=START), begins=()),
    "idefics3": _idefics,  # Idefics3 itself on Llama 3, and the first SmolVLM on SmolLM2
    "qwen2": Family(TOOLS, SYSTEM),
    "qwen3": Family(QWEN_3),
    "qwen3_moe": Family(QWEN_3, experts=True),
    "llama": Family(LLAMA, variants=LLAMAS),
    "gemma": Family(GEMMA_2),
    "gemma2": Family(GEMMA_2, capped=True),
    "gemma3_text": Family(GEMMA),
    "mistral": _mistral,
    "mixtral": replace(_mistral, experts=True),
}
"""By the model type in the checkpoint's configuration."""
