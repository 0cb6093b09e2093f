"""How alike two texts are: a response and ``reference.answer``, as sentences or token by token.

``sentence``: the cosine of sentence embeddings (Sentence-BERT, arXiv 1908.10084; GTE, arXiv 2308.03281).
``token_match``: the bidirectional max-average similarity (BMAS) of Mixed-R1 on input embeddings.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from rewardhub.errors import ConfigError, NoAnswer, OverLimit, ReferenceUnparseable, ScoringError
from rewardhub.models.backbone import DTYPES, load_encoder, pick_device
from rewardhub.models.card import Card
from rewardhub.models.checkpoint import read_config, tensor_named
from rewardhub.models.digest import tree_stamp
from rewardhub.models.memory import memory_errors
from rewardhub.models.model import RewardModel, check_ids, fingerprint_of, finite, folder_of
from rewardhub.models.progress import progress
from rewardhub.models.text import TextTokenizer
from rewardhub.raised import failure
from rewardhub.types import Column, Group, Json, Response, Score

ENDS = {"bert": ("[CLS]", "[SEP]"), "xlm-roberta": ("<s>", "</s>")}
"""The encoders of sentences, and the tokens that stand around a text."""
EMBEDDINGS = ("embed_tokens.weight", "word_embeddings.weight", "wte.weight")
TABLES = (*ENDS, "qwen2", "qwen2_5_vl", "qwen2_vl", "qwen3", "llama", "mistral", "gemma2", "gpt2", "internlm2")
SETTINGS = "sentence_bert_config.json"
STAGES = ("Transformer", "Pooling", "Normalize")
"""Modules of sentence-transformers that are computed here, by the names of their folders."""
MAX_TOKENS, MAX_GOLDS = 4_096, 64


class WordingModel(RewardModel):
    """The value is the similarity in [-1, 1] to the nearest of ``reference.answer``, by the card's calibration.

    ``reference.answer`` is a text or a list of texts. The response is read whole: a recipe names the term
    whose text it is. A text that is too long for the model is never cut.
    """

    architectures: tuple[str, ...]

    def __init__(self, card: Card) -> None:
        self.card = card
        self.path = folder_of(card, self.architectures)
        self.stamp = tree_stamp(self.path)
        self.kind = str(read_config(self.path)["model_type"])
        self.tokenizer = TextTokenizer(self.path)
        self._known: dict[str, Tensor] = {}
        with memory_errors():
            check_ids(self.path, self.tokenizer.size, self.load())

    @abstractmethod
    def load(self) -> int:
        """Reads the weights; returns how many token ids they know."""

    @abstractmethod
    def encode(self, ids: list[int]) -> Tensor:
        """Unit vectors [K, H] in fp32 of a text's tokens, or one of the whole."""

    @abstractmethod
    def compare(self, ours: Tensor, theirs: Tensor) -> float:
        """The similarity of two encoded texts, in [-1, 1]."""

    def shown(self, text: str) -> str:
        """What the tokenizer reads of a text."""
        return text

    @property
    @abstractmethod
    def limit(self) -> int:
        """The longest text in tokens."""

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of("wording", self.card, self.path, self.stamp, pick_device(self.card.device).split(":")[0])

    def score(self, groups: Sequence[Group]) -> list[Column]:
        """One column per group; a text is encoded once per call."""
        self._known = {}
        with memory_errors(), torch.inference_mode():
            return [
                Column.of([self._one(group.reference, each) for each in group.responses], self.fingerprint)
                for group in groups
            ]

    def probe(self, tokens: int) -> int:
        """See :class:`~rewardhub.models.model.RewardModel`."""
        tokens = max(1, min(tokens, self.limit))
        with memory_errors(), torch.inference_mode():
            encoded = self.encode([0] * tokens).float()
            self.compare(encoded, encoded)
        return tokens

    def _one(self, reference: Json, response: Response) -> Score:
        try:
            golds = [self._gold(text) for text in _golds(reference)]
            ours = self._encoded(response.text)
            if ours is None:
                raise NoAnswer("the response is empty")
            near = [self.compare(ours, theirs) for theirs in golds]
            # A NaN is not the greatest of several, nor is it held within bounds.
            if not all(map(math.isfinite, near)):
                return finite(math.nan)
            return finite(self.card.calibration(max(-1.0, min(1.0, max(near)))))
        except ScoringError as error:
            return failure(error)

    def _gold(self, text: str) -> Tensor:
        try:
            found = self._encoded(text)
        except OverLimit as error:
            raise ReferenceUnparseable(f"reference.answer: {error.message}", field="reference.answer") from None
        if found is None:
            raise ReferenceUnparseable("reference.answer is empty", field="reference.answer")
        return found

    def _encoded(self, text: str) -> Tensor | None:
        """The text's vectors; None for a blank one. Raises ``OverLimit``."""
        if text not in self._known:
            ids = self.tokenizer.encode(self.shown(text)) if text.strip() else []
            if len(ids) > self.limit:
                raise OverLimit(f"{len(ids)} tokens, over the model's limit of {self.limit}")
            if not ids:
                return None
            self._known[text] = torch.nn.functional.normalize(self.encode(ids).float(), dim=-1)
        return self._known[text]


class SentenceModel(WordingModel):
    """Sentence embeddings of an encoder, pooled as the card's ``pooling`` or the checkpoint's ``1_Pooling`` says."""

    architectures = tuple(ENDS)

    def load(self) -> int:
        from transformers import BertModel, XLMRobertaModel

        _check_stages(self.path)
        self.pooling = self.card.pooling or _pooling(self.path)
        self.lowers = read_config(self.path, SETTINGS).get("do_lower_case") is True
        model_class = {"bert": BertModel, "xlm-roberta": XLMRobertaModel}[self.kind]
        self.model = load_encoder(self.path, model_class, self.card, add_pooling_layer=False)
        self.ends = [self.tokenizer.control(token) for token in ENDS[self.kind]]
        return int(self.model.config.vocab_size)

    @property
    def limit(self) -> int:
        # XLM-RoBERTa counts positions from 2.
        places = int(self.model.config.max_position_embeddings) - (2 if self.kind == "xlm-roberta" else 0)
        theirs = read_config(self.path, SETTINGS).get("max_seq_length")
        stated = self.card.max_tokens or (theirs if isinstance(theirs, int) and theirs > 0 else places)
        return min(stated, places) - len(self.ends)

    def shown(self, text: str) -> str:
        return text.lower() if self.lowers else text

    def encode(self, ids: list[int]) -> Tensor:
        progress.holds(len(ids))
        shown = torch.tensor([[self.ends[0], *ids, self.ends[1]]], device=self.model.device)
        states: Tensor = self.model(input_ids=shown, return_dict=True).last_hidden_state[0]
        return (states.mean(0) if self.pooling == "mean" else states[0])[None]

    def compare(self, ours: Tensor, theirs: Tensor) -> float:
        return float((ours @ theirs.T).squeeze())


class TokenMatchModel(WordingModel):
    """Input embeddings of a language model, of which nothing but this table is read."""

    architectures = TABLES

    def load(self) -> int:
        self.table = tensor_named(self.path, EMBEDDINGS).to(DTYPES[self.card.dtype])
        return len(self.table)

    @property
    def limit(self) -> int:
        return min(self.card.max_tokens or MAX_TOKENS, MAX_TOKENS)

    def encode(self, ids: list[int]) -> Tensor:
        progress.holds(len(ids))
        return self.table[ids]

    def compare(self, ours: Tensor, theirs: Tensor) -> float:
        return bmas(ours, theirs)


def bmas(ours: Tensor, theirs: Tensor) -> float:
    """Half of mean_i max_j cos(e_i, f_j) + mean_j max_i cos(e_i, f_j), of unit vectors [N, H] and [M, H]."""
    cosines = ours @ theirs.T
    return float((cosines.amax(1).mean() + cosines.amax(0).mean()) / 2)


def _check_stages(path: Path) -> None:
    """Raises ``ConfigError`` for a module or a prompt of sentence-transformers that would be left out."""
    for folder in sorted(path.glob("[0-9]*_*/")):
        if folder.name.partition("_")[2] not in STAGES:
            reason = f"{folder} is a module that is not computed here; known: {', '.join(STAGES)}"
            raise ConfigError(reason, field="path")
    theirs = read_config(path, "config_sentence_transformers.json")
    prompts, name = theirs.get("prompts"), theirs.get("default_prompt_name")
    if name and isinstance(prompts, dict) and prompts.get(str(name)):
        raise ConfigError(f"{path} puts {prompts[str(name)]!r} before each text, which is not done here", field="path")


def _pooling(path: Path) -> Literal["mean", "first"]:
    """How a checkpoint of sentence-transformers pools states; raises ``ConfigError`` for other ways."""
    settings = read_config(path / "1_Pooling")
    modes = [name for name, chosen in settings.items() if name.startswith("pooling_mode_") and chosen is True]
    if modes == ["pooling_mode_cls_token"]:
        return "first"
    if modes not in ([], ["pooling_mode_mean_tokens"]):
        raise ConfigError(f"{path / '1_Pooling'} pools by {', '.join(modes)}, not by cls or mean", field="pooling")
    return "mean"


def _golds(reference: Json) -> list[str]:
    answer = reference.get("answer")
    texts = [answer] if isinstance(answer, str) else answer
    if not isinstance(texts, list | tuple) or not 0 < len(texts) <= MAX_GOLDS:
        reason = f"reference.answer must be a text or a list of 1 to {MAX_GOLDS}"
        raise ReferenceUnparseable(reason, field="reference.answer")
    if not all(isinstance(text, str) for text in texts):
        raise ReferenceUnparseable("reference.answer must hold texts only", field="reference.answer")
    return list(texts)
