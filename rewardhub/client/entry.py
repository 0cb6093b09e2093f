"""A group under way to a hub."""

from dataclasses import dataclass, field

from rewardhub.client.dropped import Dropped
from rewardhub.types import Group, GroupScores


@dataclass(slots=True, eq=False)
class Entry:
    """A group that is not answered yet; ``deadline`` is in seconds of the loop's clock, ``post`` is what it was last
    sent in, ``first`` the index of its first response in the answer, None where the hub says it. ``waits`` are tries
    that met no hub, while one that answered before restarts; ``lost`` says that a connection broke.
    """

    group: Group
    deadline: float
    first: int | None = None
    sent: bool = False
    post: object = None
    tries: int = 0
    waits: int = 0
    reuploaded: bool = False
    lost: bool = False
    parts: list[GroupScores] = field(default_factory=list)
    earlier: GroupScores | None = None
    dropped: Dropped = field(default_factory=Dropped)

    @property
    def is_fragment(self) -> bool:
        """Whether more responses come under this id in other calls: sent twice it would count twice."""
        return self.group.is_member
