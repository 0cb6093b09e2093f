"""A plugin of vLLM: every text and image-text model of its registry, with reward heads in place of its language head.

The architecture ``RewardHub`` + NAME is NAME with the heads that ``rewardhub_head`` of the configuration
describes, see :class:`~rewardhub_vllm.heads.Heads`; the hub sets both with ``--hf-overrides``. ``--quantization
rewardhub_int8`` is :class:`~rewardhub_vllm.int8.Int8Config`.
"""

PREFIX = "RewardHub"
ENDINGS = ("ForCausalLM", "ForConditionalGeneration")


def register() -> None:
    """Called by vLLM in each of its processes; imports no model."""
    from vllm import ModelRegistry

    import rewardhub_vllm.int8  # noqa: F401

    for name in list(ModelRegistry.get_supported_archs()):
        if name.endswith(ENDINGS) and not name.startswith(PREFIX):
            ModelRegistry.register_model(PREFIX + name, f"rewardhub_vllm.models:{name}")
