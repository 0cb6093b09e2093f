"""Which class scores which kind of card."""

from collections.abc import Callable, Mapping

from rewardhub.models.card import Card, Kind
from rewardhub.models.classes import OutcomeModel, SafetyModel
from rewardhub.models.critique import CritiqueModel
from rewardhub.models.ensemble import EnsembleModel
from rewardhub.models.generative import GenerativeModel
from rewardhub.models.implicit import ImplicitModel
from rewardhub.models.listwise import ListwiseModel
from rewardhub.models.model import RewardModel
from rewardhub.models.objectives import ObjectivesModel
from rewardhub.models.pairwise import PairwiseModel
from rewardhub.models.process import ProcessModel
from rewardhub.models.scalar import CostModel, ScalarModel
from rewardhub.models.similarity import SimilarityModel
from rewardhub.models.vllm import check_kind
from rewardhub.models.wording import SentenceModel, TokenMatchModel
from rewardhub.models.yes_no import YesNoModel

KINDS: Mapping[Kind, Callable[[Card], RewardModel]] = {
    "scalar": ScalarModel,
    "cost": CostModel,
    "outcome": OutcomeModel,
    "safety": SafetyModel,
    "objectives": ObjectivesModel,
    "process": ProcessModel,
    "yes_no": YesNoModel,
    "listwise": ListwiseModel,
    "pairwise": PairwiseModel,
    "implicit": ImplicitModel,
    "similarity": SimilarityModel,
    "sentence": SentenceModel,
    "token_match": TokenMatchModel,
    "critique": CritiqueModel,
    "generative": GenerativeModel,
    "ensemble": lambda card: EnsembleModel(card, build),
}


def build(card: Card) -> RewardModel:
    """The model of a card, loaded."""
    if card.backend == "vllm":
        check_kind(card)
    return KINDS[card.kind](card)
