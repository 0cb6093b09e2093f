"""Checkpoint folders: what is accepted, which tensors they hold, and how a trained model is written.

A checkpoint is untrusted: weights come from safetensors only, and no code it names is ever run.
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from rewardhub.errors import ConfigError, nearest
from rewardhub.models.families import FAMILIES

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTERS = ("adapter_config.json", "adapter_model*")
"""Files of an adapter, which transformers would load or leave out unasked."""
ADAPTED = re.compile(r"\.(lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector|base_layer|modules_to_save)\b")
"""Tensors of an adapter that was not merged, as peft names them, whatever file holds them."""
TEXT_FILES = ("*.json", "*.jinja", "*.txt")
QUANTIZER = "quantization_config"
PUBLISHED = frozenset({"awq", "gptq", "compressed-tensors"})
"""Methods of checkpoints that were quantised before they were published; vLLM reads them."""
CODE_FIELDS = ("auto_map", QUANTIZER, "attn_implementation", "_attn_implementation")
MAX_JSON = 64 * 1024 * 1024
LAYERS, MAX_LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "depth"), 1024


def download(repository: str, revision: str) -> Path:
    """The local snapshot of a Hugging Face repository at ``revision``; only data files are fetched."""
    from huggingface_hub import snapshot_download

    try:
        wanted, unread = ["*.safetensors", *TEXT_FILES], ["consolidated*"]  # Mistral's own form of the same weights
        found = snapshot_download(repository, revision=revision, allow_patterns=wanted, ignore_patterns=unread)
    except Exception as error:
        raise ConfigError(f"{repository}@{revision}: {type(error).__name__}: {error}", field="repository") from error
    return Path(found)


def check_checkpoint(
    path: Path, architectures: Sequence[str] = tuple(FAMILIES), quantization: str = "none"
) -> dict[str, Any]:
    """The configuration of a checkpoint that may be loaded.

    Raises ``ConfigError`` for a folder that is missing files, names code of its own (``auto_map``, a
    hub kernel, a quantiser other than its card's ``quantization``), holds only pickled weights or an unmerged
    adapter, names weights that it does not hold, holds others beside them, says in two files how images are cut and not
    the same, or whose architecture is not supported.
    """
    if not path.is_dir():
        raise ConfigError(f"{path} is not a folder", field="path")
    allowed = _check_quantizer(path, quantization)
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"):
        for key in CODE_FIELDS:
            if key == allowed or not _mentions(_json(path / name), key):
                continue
            if key == QUANTIZER and (method := _method(path)):
                reason = f"weights quantised by {method!r}, and the card's quantization is {quantization!r}"
                readable = ", ".join(sorted(PUBLISHED))
                reason = f"{path / name} sets {key!r}: {reason}; the vllm backend reads {readable}"
                raise ConfigError(reason, field="quantization")
            raise ConfigError(f"{path / name} sets {key!r}: code a checkpoint names is not run", field="path")
    _check_adapters(path)
    if not weight_files(path):
        pickles = sorted(each.name for each in path.iterdir() if each.suffix in PICKLES)
        found = f"only pickled weights ({', '.join(pickles)}), which are refused" if pickles else "no weights"
        raise ConfigError(f"{path} holds {found}; expected *.safetensors", field="path")
    _check_index(path)
    _check_processors(path)
    config = _supported(path / "config.json", architectures)
    if quantization == "int8" and (family := FAMILIES.get(config["model_type"])) and family.experts:
        raise ConfigError(f"{path}: int8 is of linear layers, this model's weights are experts'", field="quantization")
    return config


def read_config(path: Path, name: str = "config.json") -> dict[str, Any]:
    """The checkpoint's ``config.json``, or another file of settings; empty where there is none."""
    return _json(path / name)


def named_token(path: Path, name: str) -> str:
    """The token that a checkpoint's tokenizer has for ``name``, such as "eos_token"; "" where it names none."""
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        token = _json(path / file).get(name)
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str) and token:
            return token
    return ""


def chat_template(path: Path) -> str:
    """The text of a checkpoint's chat templates, which are never run; "" where it brings none."""
    file = path / "chat_template.jinja"
    if file.is_file() and file.stat().st_size <= MAX_JSON:
        return file.read_text(encoding="utf-8", errors="replace")
    named = [_json(path / name).get("chat_template") for name in ("chat_template.json", "tokenizer_config.json")]
    listed = [part for each in named for part in (each if isinstance(each, list) else [{"template": each}])]
    texts = [each.get("template") for each in listed if isinstance(each, dict)]
    return "\n".join(each for each in texts if isinstance(each, str))


def weight_files(path: Path) -> list[Path]:
    return sorted(path.glob("*.safetensors"))


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A weight file; raises ``ConfigError`` where it cannot be read, from here on or later."""
    try:
        with safe_open(file, framework="pt") as weights:
            yield weights
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{file}: {error}", field="path") from error


def tensors_under(path: Path, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors of all weight files, side files included, whose names start with one of ``prefixes``.

    Raises ``ConfigError`` where two files hold different ones of one name.
    """
    tensors: dict[str, Tensor] = {}
    for file in weight_files(path):
        with _opened(file) as weights:
            names = [name for name in weights.keys() if name.startswith(prefixes)]  # noqa: SIM118
            found = {name: weights.get_tensor(name).clone() for name in names}  # else of the file, not of ours
        for name in tensors.keys() & found.keys():
            _check_twin(file, name, tensors[name], found[name])
        tensors |= found
    return tensors


def check_twins(path: Path) -> None:
    """Raises ``ConfigError`` where two weight files hold different tensors of one name: vLLM reads all files."""
    holders: dict[str, Path] = {}
    for file in weight_files(path):
        with _opened(file) as weights:
            for name in weights.keys():  # noqa: SIM118
                if name in holders:
                    with _opened(holders[name]) as others:
                        _check_twin(file, name, others.get_tensor(name), weights.get_tensor(name))
                holders[name] = file


def _check_twin(file: Path, name: str, one: Tensor, other: Tensor) -> None:
    if not one.equal(other):
        raise ConfigError(f"{file.parent} holds two tensors {name!r}, one in {file.name}", field="path")


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors of all weight files by their names."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in weight_files(path):
        with _opened(file) as weights:
            shapes |= {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    return shapes


def check_causal(path: Path) -> None:
    """Raises ``ConfigError`` for attention that is not causal: a token's state would be another with text behind it."""
    config = read_config(path)
    for part in (config, *(each for each in config.values() if isinstance(each, dict))):
        if part.get("is_causal") is False or part.get("use_bidirectional_attention"):
            raise ConfigError(f"{path}: attention that is not causal is not computed here", field="path")


def check_computed(path: Path) -> None:
    """Raises ``ConfigError`` for what a decoder here cannot compute: attention that is not causal, whose rows would
    see the padding behind them, and weights that are no floating point numbers, which no scale belongs to.
    """
    check_causal(path)
    for file in weight_files(path):
        with _opened(file) as weights:
            kinds = {name: str(weights.get_slice(name).get_dtype()) for name in weights.keys()}  # noqa: SIM118
        for name, kind in kinds.items():
            if name.endswith((".weight", ".bias")) and not kind.startswith(("F", "BF")):
                raise ConfigError(f"{file}: {name} is of type {kind}, not of floating point", field="path")


def tensor_named(path: Path, endings: tuple[str, ...]) -> Tensor:
    """The only tensor of a checkpoint whose name ends in one of ``endings``."""
    found: list[Tensor] = []
    for file in weight_files(path):
        with _opened(file) as weights:
            found += [weights.get_tensor(name).clone() for name in weights.keys() if name.endswith(endings)]  # noqa: SIM118
    if len(found) != 1:
        raise ConfigError(f"{path} holds {len(found)} tensors named {' or '.join(endings)}, not one", field="path")
    return found[0]


def save_classifier(model: Any, head: Mapping[str, Tensor], source: Path, path: Path) -> None:
    """Writes a backbone and its head as a scalar classifier, with the tokenizer files of ``source``.

    The configuration says that it is the family's ``ForSequenceClassification`` with one label of a regression, and
    tensors carry the names of the family's published checkpoints, so that vLLM serves the raw score.
    """
    from huggingface_hub import save_torch_state_dict

    kind = str(model.config.model_type)
    path.mkdir(parents=True, exist_ok=True)
    for each in (file for pattern in TEXT_FILES for file in source.glob(pattern)):
        if path != source and each.name != INDEX:
            shutil.copyfile(each, path / each.name)
    state = {_published_name(kind, name): tensor for name, tensor in model.state_dict().items()}
    if not FAMILIES[kind].image:
        head = {name.removeprefix("language_model."): tensor for name, tensor in head.items()}
    save_torch_state_dict({**state, **head}, str(path))
    config = model.config.to_dict() | {
        "architectures": [architecture(kind).partition("For")[0] + "ForSequenceClassification"],
        "num_labels": 1,
        "problem_type": "regression",
    }
    config.pop("id2label", None)
    config.pop("label2id", None)
    (path / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def architecture(model_type: str) -> str:
    """The name of the family's model class with a language head."""
    from transformers.models.auto import modeling_auto

    names = (
        modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        if FAMILIES[model_type].image
        else modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    )
    return str(names[model_type])


def _published_name(model_type: str, name: str) -> str:
    """Of a tensor of the bare model: Qwen2-VL and Qwen2.5-VL were published under names of their own."""
    if model_type not in {"qwen2_vl", "qwen2_5_vl"}:
        return f"model.{name}"
    inner = name.removeprefix("language_model.")
    return name if inner == name else f"model.{inner}"


def _check_adapters(path: Path) -> None:
    """An adapter changes a base model's weights: transformers would load or leave it out unasked."""
    base = _json(path / ADAPTERS[0]).get("base_model_name_or_path")
    into = f"its base model {base!r}" if isinstance(base, str) and base else "its base model"
    if adapter := next((each for name in ADAPTERS for each in path.glob(name)), None):
        raise ConfigError(f"{adapter} is an adapter's; merge it into {into} first", field="path")
    for file in weight_files(path):
        with _opened(file) as weights:
            found = next((name for name in weights.keys() if ADAPTED.search(name)), None)  # noqa: SIM118
        if found:
            raise ConfigError(f"{file} holds an adapter's {found!r}; merge it into {into} first", field="path")


def _check_index(path: Path) -> None:
    """Only the folder's own files are read, all that its index names, and the same ones whatever reads the folder."""
    named, held = _json(path / INDEX).get("weight_map"), {file.name for file in weight_files(path)}
    if not isinstance(named, dict):
        return
    if WHOLE in held and set(named.values()) != {WHOLE}:
        reason = f"{path} holds {WHOLE}, which transformers reads, and an index of other files, which vLLM reads"
        raise ConfigError(f"{reason}; remove what is not meant", field="path")
    if absent := sorted(set(map(str, named.values())) - held):
        raise ConfigError(f"{path / INDEX} names {absent[0]!r}, which is no file of this folder", field="path")


def _check_processors(path: Path) -> None:
    """Settings of images stand in one file or the other; where both hold some, libraries and versions differ in which
    they read.
    """
    first, second = "preprocessor_config.json", "processor_config.json"
    ours, theirs = _json(path / first), _json(path / second).get("image_processor")
    theirs = theirs if isinstance(theirs, dict) else {}
    for name in sorted(ours.keys() & theirs.keys()):
        if ours[name] != theirs[name] and not name.endswith(("_type", "_class")):
            both = f"{first} sets {name!r} to {ours[name]!r}, {second} to {theirs[name]!r}"
            raise ConfigError(f"{path}: {both}; keep what the model was trained with", field="path")


def _supported(file: Path, architectures: Sequence[str]) -> dict[str, Any]:
    if not file.is_file():
        raise ConfigError(f"{file.parent} holds no {file.name}", field="path")
    config = _json(file)
    kind = config.get("model_type")
    if kind not in architectures:
        hint = nearest(str(kind), architectures)
        raise ConfigError(f"{file}: model_type {kind!r} is not supported{hint}", field="path")
    for part in (config, *(each for each in config.values() if isinstance(each, dict))):
        for key in LAYERS:
            if isinstance(count := part.get(key, 0), int) and count > MAX_LAYERS:
                raise ConfigError(f"{file}: {key} is {count}, at most {MAX_LAYERS}", field="path")
    return config


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    if file.stat().st_size > MAX_JSON:
        raise ConfigError(f"{file} is over {MAX_JSON} bytes", field="path")
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: {error}", field="path") from error
    return value if isinstance(value, dict) else {}


def _check_quantizer(path: Path, quantization: str) -> str:
    """The field of ``config.json`` that a checkpoint published as quantised has to bring; "" for any other."""
    if quantization not in PUBLISHED:
        return ""
    if (found := _method(path)) != quantization:
        raise ConfigError(f"{path} is quantised by {found!r}, its card says {quantization!r}", field="quantization")
    return QUANTIZER


def _method(path: Path) -> str | None:
    settings = read_config(path).get(QUANTIZER)
    found = settings.get("quant_method") if isinstance(settings, dict) else None
    return found if isinstance(found, str) else None


def _mentions(value: Any, key: str) -> bool:
    if isinstance(value, dict):
        return bool(value.get(key)) or any(_mentions(each, key) for each in value.values())
    return False
