"""A tokenizer, chat template and format like those of Qwen3, made here."""

from mpd.config.chat import Chat

QWEN = Chat()
NONE = Chat(think="none")
CORPUS = [
    "We add the two numbers and get the answer.",
    "The answer is \\boxed{4}. So 2+2=4, and 4-2=2.",
    "I think that <b>this</b> is a thinking step: think again.\n\nAnswer: 4\n",
]
CHATML = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{{- '<|im_start|>assistant\\n' -}}"
    "{%- if enable_thinking is defined and not enable_thinking -%}"
    "{{- '<think>\\n\\n</think>\\n\\n' -}}"
    "{%- endif -%}"
)
OPENED = CHATML + "{{- '<think>\\n' -}}"
