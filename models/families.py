"""Families of backbones: how each writes a prompt, reads an image and counts positions."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace

from rewardhub.errors import ConfigError
from rewardhub.models.chat import IMAGE, SYSTEM, VIDEO, VISION_END, VISION_START
from rewardhub.models.pictures import ImageReader, NoImages, QwenImages
from rewardhub.models.style import CHATML, START, Style
from rewardhub.models.tiles import GemmaImages, IdeficsImages, InternImages, LlavaImages


@dataclass(frozen=True, slots=True)
class Family:
    """A model type of transformers.

    ``system`` is what the family's own template says where a prompt has no system message.
    ``image`` is the placeholder of image features, "" for a model of text; ``controls`` are further
    control tokens about images, and ``optional`` ones may be missing. A conversation starts with the first of
    ``begins`` that the tokenizer has, where the style names no start of its own. ``grid_positions`` says that rope
    has three positions per token. With ``whole_forward`` the model's own forward builds its masks, since
    image tokens attend to one another.
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


GEMMA = Style(
    begin="<bos>", start="<start_of_turn>", end="<end_of_turn>", names=(("assistant", "model"),), system_turn=False,
    trimmed="each", answers="none",
)  # fmt: skip
LLAMA = Style(
    begin="<|begin_of_text|>", start="<|start_header_id|>", header="{role}", header_end="<|end_header_id|>",
    behind_header="\n\n", end="<|eot_id|>", behind="", names=(("tool", "ipython"),), trimmed="each",
    calls="parameters", answers="quoted",
)  # fmt: skip
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
    "llama": Family(LLAMA),
    "gemma3_text": Family(GEMMA),
}
"""By the model type in the checkpoint's configuration."""
