"""Labels of records: numbers of classes, and the names of the classes in the data.

    names    the labels of training records, where class k is names[k], followed by labels that only other records have
    label    int32: index of a record's label in names, or MISSING if the record has none

A label that no training record has gets a number from the number of classes on, and no network has learned it. Numbers
of different data sets cannot be compared: a run stores the names of its classes, and data that are read for it later
are matched by name.
"""

import dataclasses

import numpy as np

from scoresde.errors import DataError

MISSING = -1
_SHOWN = 10  # names of classes in a message


def numbered(
    train: np.ndarray | None, test: np.ndarray | None
) -> tuple[np.ndarray | None, np.ndarray | None, tuple[str, ...]]:
    """Return the numbers of the integer labels of train and test, None for missing labels, and the names.

    Labels are compared as exact integers, so that labels such as 2^40, which int32 would wrap, are valid.
    """
    apart = [None if part is None else np.unique(part, return_inverse=True) for part in (train, test)]
    values = [[] if part is None else part[0].tolist() for part in apart]
    ordered = [*values[0], *sorted(set(values[1]).difference(values[0]))]
    place = {value: k for k, value in enumerate(ordered)}
    numbers = [
        None if part is None else np.array([place[value] for value in own], np.int32)[part[1].reshape(-1)]
        for part, own in zip(apart, values, strict=True)
    ]
    return *numbers, tuple(map(str, ordered))


def trained_first(
    labels: np.ndarray, names: tuple[str, ...], train: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...], int]:
    """Renumber labels so that those of training records come first.

    Args:
        labels: label numbers [N].
        names: names of the label numbers.
        train: numbers of the training records.

    Returns:
        New labels, their names in the new order, and the number of labels of training records.
    """
    known = set(np.unique(labels[train]).tolist()) & set(range(len(names)))
    order = [*(k for k in range(len(names)) if k in known), *(k for k in range(len(names)) if k not in known)]
    place = np.empty(len(names) + 1, np.int32)  # MISSING = -1 indexes the last entry
    place[order], place[MISSING] = np.arange(len(names)), MISSING
    return place[labels], tuple(names[k] for k in order), len(known)


class Relabelled:
    """Source whose labels are renumbered.

    Args:
        source: the records.
        numbers: new number of each old number.
        classes: number of classes among the new numbers.
    """

    def __init__(self, source, numbers: np.ndarray, classes: int):
        self.source, self.classes, self.shape, self.threads = source, classes, source.shape, source.threads
        self.tables = getattr(source, "tables", {})
        self._numbers = np.append(numbers, MISSING).astype(np.int32)  # MISSING = -1 indexes the last entry

    @property
    def labels(self) -> np.ndarray:
        return self._numbers[self.source.labels]

    @property
    def labelled(self) -> bool:
        return self.source.labelled

    def __len__(self) -> int:
        return len(self.source)

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        values, conditions = self.source.rows(indices)
        return values, conditions | {"class": self._numbers[conditions["class"]]}


def with_classes(dataset, classes: tuple[str, ...]):
    """Return the same data set with the label numbers of a run whose classes have the names `classes`."""
    old = dataset.label_names
    if old[: dataset.classes] == classes or not dataset.classes:
        return dataset
    names = (*classes, *(name for name in old if name not in classes))
    numbers = np.array([names.index(name) for name in old], np.int32)
    train, test = (Relabelled(source, numbers, len(classes)) for source in (dataset.train, dataset.test))
    return dataclasses.replace(dataset, train=train, test=test, names=names)


def shares(dataset) -> np.ndarray:
    """Return the share of each class among the labelled training records, float64 [classes].

    Raises:
        DataError: no training record has a label.
    """
    labels = dataset.train.labels
    counts = np.bincount(labels[(labels >= 0) & (labels < dataset.classes)], minlength=dataset.classes)
    if not counts.sum():
        raise DataError(
            f"{dataset.name}: expected labels of training records, whose shares the classes are drawn by, got none; "
            "use sampling.labels=uniform"
        )
    return counts / counts.sum()


def check_classes(dataset, labels: np.ndarray, what: str) -> None:
    """Check that the labels of the records `what` are classes of the data set.

    Raises:
        DataError: a record has no label, or a label that is not a class.
    """
    if missing := int((labels == MISSING).sum()):
        raise DataError(
            f"{dataset.name}: expected a label for each of the {what}, as the network takes classes "
            f"({shown(dataset)}), got none for {missing} of {len(labels)}; add their labels, or train without "
            "conditions.class, or with training.condition_dropout"
        )
    if (unknown := labels[labels >= dataset.classes]).size:
        raise DataError(
            f"{dataset.name}: {unknown.size} of {len(labels)} {what} have a label that was not trained, the first is "
            f"{dataset.label_names[unknown[0]]}; expected one of {shown(dataset)}; remove these records, or train with "
            "their class"
        )


def shown(dataset) -> str:
    """Return the names of at most 10 classes for a message."""
    return ", ".join(dataset.label_names[: dataset.classes][:_SHOWN]) + (", ..." if dataset.classes > _SHOWN else "")
