"""A plugin of vLLM: every text and image-text model of its registry, with reward heads in place of its language head.

The architecture ``RewardHub`` + NAME is NAME with the heads that ``rewardhub_head`` of the configuration
describes, see :class:`~rewardhub_vllm.heads.Heads`; the hub sets both with ``--hf-overrides``.
"""

PREFIX = "RewardHub"
ENDINGS = ("ForCausalLM", "ForConditionalGeneration")


def register() -> None:
    """Called by vLLM in each of its processes; imports no model."""
    from vllm import ModelRegistry

    for name in list(ModelRegistry.get_supported_archs()):
        if name.endswith(ENDINGS) and not name.startswith(PREFIX):
            ModelRegistry.register_model(PREFIX + name, f"rewardhub_vllm.models:{name}")
