"""Labels: what is missing is missing, and classes are those that training records have."""

import numpy as np
import pytest

from scoresde.data import Dataset, load
from scoresde.data.dataset import ArraySource
from scoresde.data.labels import MISSING, check_classes, numbered, shares, trained_first, with_classes
from scoresde.data.prepared import PreparedSource
from scoresde.errors import DataError


def test_numbers_are_places_among_the_training_labels():
    """Sorted as integers, exactly: int32 would wrap 2^40 to 0, float64 would merge 2^62 and 2^62 + 1."""
    train, test, names = numbered(np.array([3, 1, 2, 1]), np.array([1, 3]))
    assert (train.tolist(), test.tolist(), names) == ([2, 0, 1, 0], [0, 2], ("1", "2", "3"))
    train, test, names = numbered(np.array([7, 0, 7]), None)
    assert (train.tolist(), test, names) == ([1, 0, 1], None, ("0", "7"))
    train, test, names = numbered(np.array([2**62, 2**62 + 1]), np.array([2**63, 0], np.uint64))
    assert (train.tolist(), test.tolist(), names) == ([0, 1], [3, 2], (str(2**62), str(2**62 + 1), "0", str(2**63)))
    assert numbered(None, np.array([5]))[1:] == (np.array([0]), ("5",))


def test_classes_of_training_records_come_first():
    labels, names, classes = trained_first(np.array([2, 0, MISSING, 1, 2]), ("a", "b", "c"), np.array([0, 2, 3]))
    assert (labels.tolist(), names, classes) == ([1, 2, MISSING, 0, 1], ("b", "c", "a"), 2)
    labels, names, classes = trained_first(np.zeros(3, int), (), np.arange(2))
    assert (labels.tolist(), names, classes) == ([MISSING] * 3, (), 0)


def dataset(train, test, names=()):
    sources = (ArraySource(np.zeros((len(labels), 2), np.float32), np.array(labels)) for labels in (train, test))
    return Dataset("here", *sources, 0, True, "x", names=names)


def test_data_of_another_numbering_are_matched_by_name():
    own = dataset([0, 1, MISSING, 1], [2, 0], ("cat", "dog", "emu"))
    seen = with_classes(own, ("ant", "dog", "cat"))
    assert seen.classes == 3 and seen.label_names == ("ant", "dog", "cat", "emu")
    assert seen.train.labels.tolist() == [2, 1, MISSING, 1] and seen.test.rows(np.arange(2))[1]["class"].tolist() == [
        3,
        2,
    ]
    np.testing.assert_allclose(shares(seen), [0, 2 / 3, 1 / 3])
    check_classes(seen, np.array([0, 1, 2]), "records")
    with pytest.raises(
        DataError,
        match="1 of 2 test records have a label that was not trained, the first is emu; expected one of ant, dog, cat",
    ):
        check_classes(seen, seen.test.labels, "test records")
    with pytest.raises(DataError, match="got none for 1 of 4"):
        check_classes(seen, seen.train.labels, "training records")
    assert with_classes(own, ("cat", "dog")) is own
    with pytest.raises(DataError, match="sampling.labels=uniform"):
        shares(dataset([MISSING], [MISSING]))


def test_labels_beyond_int32_are_no_class_numbers():
    with pytest.raises(DataError, match="1099511627776"):
        ArraySource(np.zeros((2, 2)), np.array([0, 2**40]))


class Split:
    """Records as TensorFlow Datasets hands them over."""

    def __init__(self, labels):
        self.labels = labels

    def __getitems__(self, numbers):
        return [{"image": np.full((2, 2, 1), n % 256, np.uint8), "label": self.labels[n]} for n in numbers]


def test_a_prepared_set_whose_test_labels_are_not_published():
    """TensorFlow Datasets writes -1."""
    make = lambda labels, memory, classes=3: PreparedSource(  # noqa: E731
        Split(labels), Split(labels), classes, (2, 2, 1), 256, "toy", np.arange(len(labels))[::-1], memory
    )
    for memory in (1.0, 0.0):
        assert make([0, 2, 1], memory).labels.tolist() == [1, 2, 0] and make([0, 2, 1], memory).labelled
        unpublished = make([-1, -1], memory)
        assert unpublished.labels.tolist() == [MISSING] * 2 and not unpublished.labelled
        assert make([0, 1], memory, classes=0).rows(np.arange(2))[1] == {}
    late = make([-1] + 300 * [1], 0.0)  # beyond those that are looked at first
    with pytest.raises(DataError, match="1 of 1 records have no label, where the first ones have"):
        late.rows(np.array([300]))


def test_a_set_of_hugging_face_with_labels_for_training_alone(tmp_path):
    datasets = pytest.importorskip("datasets")
    from test_folder import open_images, png

    features = datasets.Features(img=datasets.Image(), label=datasets.ClassLabel(names=["z", "a"]))
    part = lambda labels: datasets.Dataset.from_dict(  # noqa: E731
        {"img": [{"bytes": png(n), "path": None} for n in range(len(labels))], "label": labels}, features=features
    )
    datasets.DatasetDict(train=part([0, 1, 1]), test=part([-1, -1])).save_to_disk(tmp_path)
    data = open_images(f"hf:{tmp_path}")
    assert data.train.labels.tolist() == [0, 1, 1] and data.test.labels.tolist() == [MISSING] * 2 and data.classes == 2


@pytest.mark.parametrize("name", ["npz", "digits"])
def test_fingerprints_of_earlier_versions_hold(name, tmp_path):
    """Of sets without labels, and of classes counted from 0: their runs go on."""
    np.savez(
        tmp_path / "d.npz", x_train=np.arange(6, dtype=np.float32).reshape(3, 2), x_test=np.ones((1, 2), np.float32)
    )
    if name == "npz":
        assert load(f"npz:{tmp_path / 'd.npz'}", shape=(2,), levels=0, centered=True).fingerprint == FINGERPRINTS[name]
    else:
        assert load("digits", shape=(8, 8, 1), levels=17, centered=True).fingerprint == FINGERPRINTS[name]


FINGERPRINTS = {"npz": "npz:3+1:4370c991", "digits": "digits:1500+297:856156fc"}
