"""The frozen chemistry encoder-decoder answers exactly as its own package does, and faster."""

import pickletools
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rdkit import Chem

from molecules.spaces.annalog import CODES, PAD, VOCABULARY, Annalog
from reprogram.errors import DataError
from reprogram.interfaces import Tap

ASPIRIN, PARACETAMOL = "CC(=O)Oc1ccccc1C(=O)O", "CC(=O)Nc1ccc(O)cc1"


@pytest.fixture(scope="module")
def space():
    return Annalog()


@pytest.fixture(scope="module")
def published(space):
    """The package's own network with the same weights (its handler would unpickle the vocabulary)."""
    from annalog.model_files.seq2seq_attention import Decoder, Encoder, Seq2Seq

    args = (len(VOCABULARY), 256, 3, 8, 512, 0.1, "cpu", 102)
    model = Seq2Seq(Encoder(*args), Decoder(*args), PAD, PAD, "cpu")
    model.load_state_dict(space.state_dict())
    return model.eval()


def test_vocabulary_is_the_pickled_one_read_without_unpickling():
    folder = Path(find_spec("annalog").submodule_search_locations[0]) / "ckpt_and_vocab"
    operations = list(pickletools.genops((folder / "stereo_experiment_vocab_ttf.pkl").read_bytes()))
    texts = [value for operation, value, _ in operations if operation.name == "SHORT_BINUNICODE"]
    assert tuple(texts[1 : texts.index("stoi")]) == VOCABULARY
    assert not {o.name for o, _, _ in operations} & {"GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ"}


def test_encoder_and_decoder_equal_the_package(space, published):
    codes = space.tokens([ASPIRIN, PARACETAMOL])
    with torch.no_grad():
        theirs, _ = published(codes, codes[:, :-1])
        memory = space.encode([ASPIRIN, PARACETAMOL])
        ours = space.decoder(codes[:, :-1], memory)
        encoded = published.encoder(codes, published.make_src_mask(codes))
    real = codes != PAD
    torch.testing.assert_close(memory.states[real], encoded[real], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours[real[:, :-1]], theirs[real[:, :-1]], atol=1e-4, rtol=1e-4)


def test_greedy_equals_the_package(space, published):
    from annalog.model_files.multi_gen_final import beam_search_decode

    codes = space.tokens([PARACETAMOL])
    field = SimpleNamespace(
        vocab=SimpleNamespace(stoi=CODES, itos=VOCABULARY), pad_token="<pad>", eos_token="<eos>", init_token="<sos>"
    )
    [(theirs, score)] = beam_search_decode(
        published, codes, published.make_src_mask(codes), field, 1, 102, "cpu", use_masking=True
    )
    ours = space.decode(space.encode([PARACETAMOL]))
    assert ours.smiles == ["".join(VOCABULARY[c] for c in theirs[1:-1])]
    assert float(ours.log_probability) == pytest.approx(score, abs=1e-3)


def test_beam_scores_belong_to_their_strings(space):
    """Trap: in the package, scores slip to a neighbour once one beam has ended (its list is filtered twice)."""
    memory = space.encode([PARACETAMOL])
    found = space.beam(memory, 6)
    assert len(set(found.smiles)) == 6
    assert found.log_probability.tolist() == sorted(found.log_probability.tolist(), reverse=True)
    forced = space.log_probability(memory.rows([0] * 6), found.smiles)
    torch.testing.assert_close(found.log_probability, forced, atol=2e-2, rtol=1e-3)


def test_greedy_is_the_same_alone_and_in_a_batch(space):
    starts = [ASPIRIN, PARACETAMOL, "CCO"]
    together = space.decode(space.encode(starts)).smiles
    assert together == [space.decode(space.encode([s])).smiles[0] for s in starts]
    assert together[0] == space.beam(space.encode([ASPIRIN]), 1).smiles[0]


def test_samples_are_valid_molecules_repeat_with_the_seed_and_differ_without(space):
    memory = space.encode([ASPIRIN]).rows([0] * 32)

    def draw(seed):
        return space.decode(memory, 1.0, torch.Generator().manual_seed(seed))

    first = draw(1)
    assert first.smiles == draw(1).smiles != draw(2).smiles
    valid = [s for s in first.smiles if s and Chem.MolFromSmiles(s)]
    assert len(valid) >= 28
    whole = [i for i, s in enumerate(first.smiles) if s]
    forced = space.log_probability(memory.rows(whole), [first.smiles[i] for i in whole])
    torch.testing.assert_close(first.log_probability[whole], forced, atol=2e-2, rtol=1e-3)


def test_an_offset_on_the_memory_gets_a_gradient_and_the_source_none(space):
    offset = torch.zeros(256, requires_grad=True)
    before = space.fingerprint()
    space.log_probability(space.encode([ASPIRIN]).shifted(offset), [PARACETAMOL]).sum().backward()
    assert offset.grad.abs().sum() > 0
    assert all(p.grad is None for p in space.parameters())
    assert space.fingerprint() == before


def test_a_soft_prompt_stands_before_every_row_and_gets_a_gradient(space):
    memory = space.encode([ASPIRIN, "CCO"])
    assert torch.equal(memory.prompted(torch.zeros(0, 256)).states, memory.states)
    slots = torch.randn(3, 256, requires_grad=True)
    prompted = memory.prompted(slots)
    assert prompted.states.shape[1] == memory.states.shape[1] + 3
    assert prompted.mask[:, :3].all() and torch.equal(prompted.mask[:, 3:], memory.mask)
    space.log_probability(prompted, [ASPIRIN, "CCO"]).sum().backward()
    assert slots.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "smiles, found", [("C" * 101, "101 tokens"), ("CCI", "contains I"), ("CP(C)C[Si]", "P, [Si]"), ("", "is empty")]
)
def test_molecules_it_cannot_read_are_named(space, smiles, found):
    with pytest.raises(DataError, match=found.replace("[", r"\[")):
        space.encode(["CCO", smiles])


def test_taps_do_not_see_padding(space):
    taps = [Tap("encoder.0", "max"), Tap("encoder.1", "std"), Tap("encoder.2", "mean")]
    alone, batch = space(["CCO"], taps), space(["CCO", ASPIRIN], taps)
    torch.testing.assert_close(alone.features[0], batch.features[0], atol=1e-4, rtol=1e-4)
    for tap in taps:
        torch.testing.assert_close(alone.taps[tap][0], batch.taps[tap][0], atol=1e-4, rtol=1e-4)
