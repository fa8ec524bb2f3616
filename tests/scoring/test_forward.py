"""Packed forward passes: no waste, no sequence lost, none that sees another."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpd.scoring.forward import completion_states, pack, require_separate_sequences
from mpd.scoring.packed_model import load_packed_model
from mpd.store.model_folder import load_model


@pytest.fixture(scope="module")
def model(student):
    return load_packed_model(student.parent, "float32", "auto")


@pytest.fixture(scope="module")
def plain(student):
    """The model with the attention of transformers."""
    return load_model(student.parent, "float32")


some_lengths = st.lists(st.integers(1, 500), min_size=1, max_size=64)


def test_pack_by_hand():
    packed = pack([[5, 6], [7]], [[8, 9], [1, 2, 3]])
    assert packed.ids.tolist() == [[5, 6, 8, 9, 7, 1, 2, 3]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2, 3]]
    assert packed.predicts.tolist() == [1, 2, 4, 5, 6]
    assert packed.starts.tolist() == [0, 4, 8]
    assert packed.starts.dtype == torch.int32
    assert (packed.lengths, packed.longest) == ([4, 4], 4)


@settings(max_examples=50, deadline=None)
@given(some_lengths, st.integers(0, 2**32 - 1))
def test_what_is_predicted_stands_behind_its_place(lengths, seed):
    generator = torch.Generator().manual_seed(seed)
    sequences = [
        torch.randint(1, 1000, (length + 1,), generator=generator).tolist() for length in lengths
    ]
    cuts = [1 + seed % len(sequence[1:]) for sequence in sequences]
    prompts = [sequence[:cut] for sequence, cut in zip(sequences, cuts, strict=True)]
    completions = [sequence[cut:] for sequence, cut in zip(sequences, cuts, strict=True)]
    packed = pack(prompts, completions)
    flat, place = packed.ids[0], packed.positions[0]
    assert len(flat) == sum(map(len, sequences))
    expected = [token for completion in completions for token in completion]
    assert flat[packed.predicts + 1].tolist() == expected
    # Position ids count from the beginning of each sequence.
    starts = iter(packed.predicts.split(list(map(len, completions))))
    for prompt, completion, own in zip(prompts, completions, starts, strict=True):
        assert place[own].tolist() == list(range(len(prompt) - 1, len(prompt + completion) - 1))
        first = int(own[0]) - len(prompt) + 1
        whole = prompt + completion
        assert flat[first : first + len(whole)].tolist() == whole
        assert place[first : first + len(whole)].tolist() == list(range(len(whole)))
    assert (place == 0).nonzero()[:, 0].tolist() == packed.starts[:-1].tolist()


def sequences_of(lengths, seed=0):
    """Prompts and completions of random ids that the tokenizer of the tests knows."""
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randint(1, 150, (length,), generator=generator).tolist() for length in lengths]
    return [ids[: 1 + len(ids) // 3] for ids in made], [ids[1 + len(ids) // 3 :] for ids in made]


@torch.no_grad()
@pytest.mark.parametrize(
    "lengths", [[12], [9, 9, 9], [40, 3, 17, 5, 9, 30, 2], [60, 4, 4, 4, 50], [2] * 30]
)
def test_packed_states_are_those_of_each_sequence_alone(model, plain, lengths):
    prompts, completions = sequences_of(lengths)
    found = completion_states(model, pack(prompts, completions))
    expected = []
    for prompt, completion in zip(prompts, completions, strict=True):
        whole = plain.base_model(torch.tensor([prompt + completion])).last_hidden_state[0]
        expected.append(whole[len(prompt) - 1 : -1])
    torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=1e-5)


def test_gradients_of_packed_sequences_are_those_of_each_alone(model):
    prompts, completions = sequences_of([20, 3, 11, 7])
    weights = list(model.parameters())

    def gradient(states):
        found = torch.autograd.grad(states.square().sum(), weights, allow_unused=True)
        return [values for values in found if values is not None]

    packed = gradient(completion_states(model, pack(prompts, completions)))
    alone = [
        gradient(completion_states(model, pack([prompt], [completion])))
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    for found, *parts in zip(packed, *alone, strict=True):
        assert (found - sum(parts)).norm() < 1e-4 * (1 + found.norm())


def test_a_model_with_plain_attention_is_taken(model):
    require_separate_sequences(model)


class Mixing(torch.nn.Module):
    """A language model whose states are running means, since the row began or the sequence did."""

    def __init__(self, separate):
        super().__init__()
        self.embedding = torch.nn.Embedding.from_pretrained(torch.eye(32))
        self.separate = separate
        self.base_model = lambda **of: SimpleNamespace(last_hidden_state=self.states(**of))
        self.config = SimpleNamespace(get_text_config=SimpleNamespace)
        self.register_parameter("unused", torch.nn.Parameter(torch.zeros(1)))

    def states(self, input_ids, position_ids, use_cache, packed):
        embedded = self.embedding(input_ids)
        sequences = (position_ids == 0).cumsum(-1)
        seen = torch.ones(input_ids.shape[-1], input_ids.shape[-1]).tril().bool()
        if self.separate:
            seen = seen & (sequences[:, :, None] == sequences[:, None, :])
        weights = seen.float() / seen.sum(-1, keepdim=True)
        return weights @ embedded


def test_a_model_that_mixes_sequences_is_refused():
    require_separate_sequences(Mixing(separate=True))
    with pytest.raises(ValueError, match="Mixing: packed sequences see each other"):
        require_separate_sequences(Mixing(separate=False))


def test_a_model_with_a_recurrent_state_is_refused():
    from transformers import MambaConfig, MambaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = MambaConfig(
            vocab_size=40, hidden_size=16, state_size=4, num_hidden_layers=1, intermediate_size=16
        )
        model = MambaForCausalLM(config).eval()
    with pytest.raises(ValueError, match="MambaForCausalLM: packed sequences see each other"):
        require_separate_sequences(model)
