"""The bodies of the compatibility routes as OpenAPI describes them. Requests are read by the files beside this one."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Timeout = Annotated[float, Field(gt=0, le=300, description="seconds")]


class RunCodeBody(BaseModel):
    """A program; unknown fields are ignored."""

    code: str
    language: str = Field(examples=["python"])
    stdin: str | None = None
    run_timeout: Timeout = 10.0
    compile_timeout: Timeout = 10.0
    memory_limit_MB: float | None = Field(-1, description="-1 is the default")  # noqa: N815 - their name
    files: dict[str, str | None] | None = Field(None, description="path to base64")
    fetch_files: list[Annotated[str, Field(min_length=1, max_length=200)]] | None = None


class Outcome(BaseModel):
    status: Literal["Finished", "TimeLimitExceeded"]
    execution_time: float
    return_code: int | None
    stdout: str
    stderr: str


class RunCodeReply(BaseModel):
    status: Literal["Success", "Failed", "SandboxError"]
    message: str
    compile_result: Outcome | None
    run_result: Outcome | None
    executor_pod_name: None
    files: dict[str, str] = Field(description="fetched ones, path to base64")


class Stdin(BaseModel):
    stdin: str


class Stdout(BaseModel):
    stdout: str


class Case(BaseModel):
    input: Stdin
    output: Stdout


class Problem(BaseModel):
    test: Annotated[list[Case], Field(min_length=1, max_length=1_000)] | str = Field(description="or its JSON text")


class SubmitConfig(BaseModel):
    provided_data: Problem | Annotated[list[Problem], Field(min_length=1, max_length=1)]
    dataset_type: Literal["CommonOJDataset"] | None = None
    language: str | None = None
    run_timeout: Timeout | None = None
    compile_timeout: Timeout | None = None
    extra: dict[str, Any] | None = Field(None, description="``run_all_cases``: go on after a failure")


class SubmitBody(BaseModel):
    """A completion with its test cases; unknown fields are ignored."""

    completion: str
    config: SubmitConfig
    id: Any = 0


class Tested(BaseModel):
    passed: bool
    exec_info: RunCodeReply
    test_info: dict[str, dict[str, str]]


class SubmitReply(BaseModel):
    id: Any
    accepted: bool
    extracted_code: str
    full_code: str
    test_code: None
    tests: list[Tested]
    extracted_type: Literal["fenced", "heuristic"]
    extra: None


class BatchBody(BaseModel):
    submissions: list[SubmitBody] = Field(min_length=1, max_length=1_000, description="each is answered by itself")


class Reason(BaseModel):
    message: str
    field: str


class RefusedSubmission(BaseModel):
    id: Any
    error: Reason


class BatchReply(BaseModel):
    results: list[SubmitReply | RefusedSubmission]


class ChatMessage(BaseModel):
    role: str
    content: str | list[dict[str, Any]] = Field(description="text, or parts: text, and images as data URLs")


class ChatBody(BaseModel):
    """OpenAI's form, of which replies are greedy, whole and one."""

    model: str = Field(description="a generative card of this hub")
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    response_format: dict[str, Any] | None = None
    temperature: Literal[0] | None = None
    top_p: Literal[1] | None = None
    n: Literal[1] | None = None
    stream: Literal[False] | None = None
    seed: Any = None
    user: Any = None


class Written(BaseModel):
    role: Literal["assistant"]
    content: str


class Choice(BaseModel):
    index: int
    message: Written
    finish_reason: str


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatReply(BaseModel):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class Model(BaseModel):
    id: str = Field(description="a generative card of this hub")
    object: Literal["model"]
    created: int
    owned_by: str


class ModelsReply(BaseModel):
    object: Literal["list"]
    data: list[Model]


class OpenrlhfBody(BaseModel):
    """Samples, of which each is scored alone; unknown fields are ignored."""

    query: list[str] = Field(description="the decoded tokens of prompt and response")
    prompts: list[str]
    labels: list[Any] | None = Field(None, description="references: text means answer")


class OpenrlhfReply(BaseModel):
    """A number per query; a failed score fails the request."""

    rewards: list[float]
    scores: list[float]
    extra_logs: dict[str, list[float]]


class SlimeBody(BaseModel):
    """A sample; unknown fields are ignored."""

    prompt: str | list[dict[str, Any]] | None = ""
    response: str
    label: Any = Field(None, description="the reference: text means answer")


class Asked(BaseModel):
    model_config = ConfigDict(extra="allow")
    input: str | list[dict[str, Any]]
    instructions: str | None = None


class Said(BaseModel):
    model_config = ConfigDict(extra="allow")
    output: list[dict[str, Any]]


class VerifyBody(BaseModel):
    """A sample as OpenAI's Responses write it, and the fields of its row; the first reference that is there counts."""

    model_config = ConfigDict(extra="allow")
    responses_create_params: Asked
    response: Said
    recipe: str | None = Field(None, description="where the address names none")
    reference: Any = None
    expected_answer: Any = None
    answer: Any = None
    ground_truth: Any = None
    solution: Any = None
    verifier_metadata: dict[str, Any] | None = Field(None, description="another place of the reference")


class VerifyReply(VerifyBody):
    """The request with its reward."""

    reward: float
