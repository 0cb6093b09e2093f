"""The layers of a Llama-shaped language model over packed rows, taken apart so that nothing unread is computed.

The modules are those of transformers; what runs between them is written here: the rotation of queries and
keys, the attention over packed rows, the sums. Full attention only, normed before each part; whether a model
is of that shape is found by comparing states, when it is loaded.

The sums are kept in fp32 whatever the model's type: rounded to bf16 after each part, as transformers has them, they are
most of a deep model's error.
"""

from typing import Any

from torch import Tensor

from rewardhub.models.attention import Layer, Plan


def decode(model: Any, embedded: dict[str, Any], positions: Tensor, plan: Plan) -> Tensor:
    """The states [K, H] in fp32 at the K places that the plan reads, after the final norm.

    ``embedded`` holds one sequence: ``inputs_embeds`` [1, S, H], and what the first layers add to
    images (``deepstack_visual_embeds`` at ``visual_pos_masks``).
    """
    embeds: Tensor = embedded["inputs_embeds"]
    turn = tuple(each[0].unsqueeze(1) for each in model.rotary_emb(embeds, positions))
    states = embeds[0].float()
    deeper = embedded.get("deepstack_visual_embeds", ())
    last = len(model.layers) - 1
    for index, layer in enumerate(model.layers):
        states = _layer(layer, states, turn, plan, last=index == last)
        if index < len(deeper):
            shown = embedded["visual_pos_masks"][0]
            states[shown] += deeper[index]
    result: Tensor = model.norm(states)
    return result


def _layer(layer: Any, states: Tensor, turn: tuple[Tensor, ...], plan: Plan, *, last: bool) -> Tensor:
    """What a layer makes of all states [S, H], in place; in the last layer only of the states that are read."""
    attention, dtype = layer.self_attn, turn[0].dtype
    normed = layer.input_layernorm(states).to(dtype)
    read = list(plan.read)
    ends = last and plan.ends_only
    key = rotated(_heads(attention, "k", normed), *turn)
    value = _heads(attention, "v", normed)
    query = _heads(attention, "q", normed[read] if ends else normed)
    query = rotated(query, *(each[read] for each in turn) if ends else turn)
    plan.remember(key, value)
    parts = Layer(attention.layer_idx, query, key, value, attention.scaling)
    attended = parts.ends(plan) if ends else parts.all_tokens(plan)
    if last:
        states, attended = states[read], attended if ends else attended[read]
    states.add_(attention.o_proj(attended.flatten(1)))
    # Experts want a batch.
    return states.add_(layer.mlp(layer.post_attention_layernorm(states).to(dtype)[None])[0])


def _heads(attention: Any, name: str, states: Tensor) -> Tensor:
    """The projection [S, heads, D] of states [S, H], normed where the model norms it (Qwen3)."""
    projected = getattr(attention, f"{name}_proj")(states).unflatten(-1, (-1, attention.head_dim))
    norm = getattr(attention, f"{name}_norm", None)
    result: Tensor = projected if norm is None else norm(projected)
    return result


def rotated(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (arXiv 2104.09864) of [S, heads, D]: halves of a head are the two parts of a rotation."""
    half = states.shape[-1] // 2
    turned = states * cos
    turned[..., :half].addcmul_(states[..., half:], sin[..., :half], value=-1)
    turned[..., half:].addcmul_(states[..., :half], sin[..., half:])
    return turned
