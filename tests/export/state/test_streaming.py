"""Models whose state passes from call to call: streamed in calls of several lengths, they answer
what torch answers to the whole sequence."""

import dataclasses

import pytest

from tests.support import close, need

torch, mx = need("torch", "mlx.core")

import torch2mlx
from torch2mlx.errors import TranslationError

nn = torch.nn


class Characters(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 12, 2, batch_first=True)
        self.head = nn.Linear(12, 20)

    def forward(self, tokens, hidden):
        y, hidden = self.lstm(self.embed(tokens), hidden)
        return self.head(y), hidden


class Policy(nn.Module):
    """One step of a recurrent actor and critic."""

    def __init__(self):
        super().__init__()
        self.cell, self.actor, self.critic = nn.GRUCell(5, 7), nn.Linear(7, 3), nn.Linear(7, 1)

    def forward(self, observation, memory):
        memory = self.cell(observation, memory)
        return {"action": self.actor(memory), "value": self.critic(memory), "memory": memory}


class Streamed(nn.Module):
    """Causal convolutions that get what they have to remember of the calls before."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv1d(4, 4, 3, dilation=d) for d in (1, 2, 4)])

    def start(self, batch):
        return [torch.zeros(batch, 4, 2 * layer.dilation[0]) for layer in self.layers]

    def forward(self, x, past):
        kept = []
        for layer, before in zip(self.layers, past, strict=True):
            whole = torch.cat([before, x], -1)
            kept.append(whole[..., -before.shape[-1] :])
            x = x + torch.relu(layer(whole))
        return x, kept


class Summing(nn.Module):
    """It asks its state, and not its input, how many sequences there are."""

    def forward(self, x, total):
        sums = torch.cumsum(x, 1) + total[:, None]
        return torch.tanh(sums.reshape(total.shape[0], -1, 1)), sums[:, -1]


@dataclasses.dataclass
class Memory:
    """Keys that grow, and how many calls there were."""

    keys: torch.Tensor
    values: torch.Tensor
    seen: int


class Attentive(nn.Module):
    """Attends to all that was seen; places are told by a counter."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(6, 6) for _ in range(3))

    def forward(self, x, memory):
        places = torch.arange(x.shape[1], device=x.device) + memory.seen
        x = x + torch.sin(places.float())[:, None]
        keys = torch.cat([memory.keys, self.k(x)], 1)
        values = torch.cat([memory.values, self.v(x)], 1)
        seen = torch.arange(keys.shape[1])[None] <= places[:, None]
        y = nn.functional.scaled_dot_product_attention(
            self.q(x)[:, None], keys[:, None], values[:, None], attn_mask=seen
        )[:, 0]
        return y, Memory(keys, values, memory.seen + x.shape[1])


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def streamed(module, x, pieces, axis):
    """What the translated model answers to a sequence in pieces, joined again."""
    cache, found, at = module.make_cache(), [], 0
    for size in pieces:
        found.append(module(x.narrow(axis, at, size), cache=cache))
        at += size
    assert at == x.shape[axis]
    return mx.concatenate(found, axis=axis)


PIECES = ([7, 4], [1] * 11, [3, 1, 5, 2])


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("pieces", PIECES)
def test_a_character_model_streams_as_it_answers_to_the_whole(batch, pieces):
    model = Characters().eval()
    start = lambda n: (torch.zeros(2, n, 12), torch.zeros(2, n, 12))
    made = torch2mlx.translate(model, (torch.randint(0, 20, (2, 5)), start(2)), state=["hidden"])
    tokens = torch.randint(0, 20, (batch, 11))
    with torch.no_grad():
        whole = model(tokens, start(batch))[0]
    close(streamed(made.module, tokens, pieces, 1), whole)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_batch_that_only_the_state_is_asked_for_is_that_of_the_call(batch):
    model = Summing()
    args = (torch.randn(2, 5, 4), torch.zeros(2, 4))
    made = torch2mlx.translate(model, args, state=["total"])
    x = torch.randn(batch, 11, 4)
    close(streamed(made.module, x, [7, 4], 1), model(x, torch.zeros(batch, 4))[0])


@pytest.mark.parametrize("batch", [1, 4])
def test_a_policy_remembers_from_step_to_step(batch):
    model = Policy().eval()
    made = torch2mlx.translate(model, (torch.randn(2, 5), torch.zeros(2, 7)), state=["memory"])
    cache, memory = made.module.make_cache(), torch.zeros(batch, 7)
    for _ in range(4):
        observation = torch.randn(batch, 5)
        with torch.no_grad():
            expected = model(observation, memory)
        memory = expected.pop("memory")
        found = made.module(observation, cache=cache)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            close(found[name], value)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("pieces", PIECES)
def test_causal_convolutions_stream_in_pieces_shorter_than_their_reach(batch, pieces):
    model = Streamed().eval()
    made = torch2mlx.translate(model, (torch.randn(2, 4, 6), model.start(2)), state=["past"])
    x = torch.randn(batch, 4, 11)
    with torch.no_grad():
        whole = model(x, model.start(batch))[0]
    close(streamed(made.module, x, pieces, 2), whole)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("pieces", PIECES)
def test_a_state_that_grows_and_counts_is_empty_at_first(batch, pieces):
    model = Attentive().eval()
    start = lambda n, m: Memory(torch.zeros(n, m, 6), torch.zeros(n, m, 6), m)
    made = torch2mlx.translate(model, (torch.randn(2, 3, 6), start(2, 4)), state=["memory"])
    x = torch.randn(batch, 11, 6)
    with torch.no_grad():
        whole = model(x, start(batch, 0))[0]
    close(streamed(made.module, x, pieces, 1), whole)


def test_a_folder_of_such_a_model_is_loaded_with_its_cache(tmp_path):
    model = Policy().eval()
    made = torch2mlx.translate(model, (torch.randn(2, 5), torch.zeros(2, 7)), state=["memory"])
    made.save(tmp_path / "out")
    module, x = torch2mlx.load(tmp_path / "out"), torch.randn(3, 5)
    cache, again = module.make_cache(), made.module.make_cache()
    for _ in range(2):
        close(module(x, cache=cache)["value"], made.module(x, cache=again)["value"], 0)


def test_a_state_starts_where_its_cache_does():
    model = Policy().eval()
    made = torch2mlx.translate(model, (torch.randn(2, 5), torch.zeros(2, 7)), state=["memory"])
    observation, memory = torch.randn(2, 5), torch.randn(2, 7)
    cache = made.module.make_cache()
    cache[0][0] = mx.array(memory.numpy())
    with torch.no_grad():
        expected = model(observation, memory)
    close(made.module(observation, cache=cache)["action"], expected["action"])
    close(cache[0][0], expected["memory"])


class Twofold(nn.Module):
    def forward(self, x, state):
        return x + state, x - state, state * 2


BAD = [
    (["past"], "state 'past' is no argument: they are x, state"),
    (["state"], "state 'state': results 0, 1, 2 could be its next version"),
]


@pytest.mark.parametrize(("state", "message"), BAD)
def test_what_is_no_state_is_said_to_be_none(state, message):
    with pytest.raises(TranslationError) as error:
        torch2mlx.translate(Twofold(), (torch.ones(2, 3), torch.ones(2, 3)), state=state)
    assert str(error.value) == message


def test_a_state_that_nothing_follows_is_refused():
    with pytest.raises(TranslationError) as error:
        torch2mlx.translate(
            nn.Bilinear(3, 3, 4), (torch.ones(2, 3), torch.ones(2, 3)), state=["input2"]
        )
    assert str(error.value) == "state 'input2': no result is its next version"


def test_other_options_are_refused_beside_a_state():
    with pytest.raises(TranslationError) as error:
        torch2mlx.translate(
            Policy(), (torch.ones(2, 5), torch.ones(2, 7)), state=["memory"], standalone=True
        )
    assert str(error.value) == "standalone= is not taken together with state="
