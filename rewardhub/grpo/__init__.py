"""The reference trainer: GRPO on a small vision-language policy, with rewards from any ``Rewards``.

One step, in the order of the code:

1. prompts with images are drawn from the task (``task``);
2. each is prefilled once, and G responses are sampled from it (``policy``, ``sampling``, ``rollout``);
3. a group goes to the rewards the moment it is complete, while others generate (``reward_stream``, ``batch``);
4. rewards become advantages inside the group; a missing reward takes part in nothing (``advantages``);
5. the clipped policy loss over tokens (``losses``), its gradient and an AdamW step (``update``);
6. every number is logged, and the run is set beside supervised training of the same length (``loop``, ``report``).
"""

from rewardhub.grpo.config import GrpoConfig, load_config
from rewardhub.grpo.loop import run, train
from rewardhub.grpo.report import GrpoResult
from rewardhub.grpo.task import Example, Task

__all__ = ["Example", "GrpoConfig", "GrpoResult", "Task", "load_config", "run", "train"]
