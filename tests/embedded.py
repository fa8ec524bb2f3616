"""A language model of two matrices, and random tensors."""

from types import SimpleNamespace

import torch


class Embedded(torch.nn.Module):
    """A language model whose hidden states are the embeddings of its input ids."""

    def __init__(self, num_ids, width, seed=0, change=lambda logits: logits, **config):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.base_model = torch.nn.Embedding(num_ids, width)
        self.head = torch.nn.Linear(width, num_ids, bias=False)
        with torch.no_grad():
            for layer in (self.base_model, self.head):
                layer.weight.copy_(torch.randn(num_ids, width, generator=generator))
        embed = self.base_model.forward
        self.base_model.forward = lambda input_ids, **_: SimpleNamespace(
            last_hidden_state=embed(input_ids)
        )
        self.change = change
        self.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(**config))

    def get_output_embeddings(self):
        return self.head

    def forward(self, input_ids, **_):
        hidden = self.base_model(input_ids=input_ids).last_hidden_state
        return SimpleNamespace(logits=self.change(self.head(hidden)))


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
