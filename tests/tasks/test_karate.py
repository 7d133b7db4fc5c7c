"""Zachary's karate club: the numbers that everybody knows about it, and that they fit each other."""

import torch

from attn import masks
from attn.tasks import karate


def test_it_is_the_club_that_zachary_printed():
    club = karate.load()
    assert len(club) == 34
    assert club.edges.shape == (78, 2)
    assert int(club.meetings.sum()) == 231
    assert torch.bincount(club.faction).tolist() == [17, 17]
    assert club.faction[[0, 33]].tolist() == [0, 1]  # the teacher and the officer
    assert karate.FACTIONS == ("Mr. Hi", "Officer")


def test_each_friendship_stands_once_with_the_lower_number_first():
    edges = karate.load().edges
    assert (edges[:, 0] < edges[:, 1]).all()
    assert len({tuple(pair) for pair in edges.tolist()}) == len(edges)
    assert edges.tolist() == sorted(edges.tolist())


def test_attributes_follow_from_the_edges():
    club = karate.load()
    assert club.attributes.shape == (34, len(karate.ATTRIBUTES))
    linked = masks.graph(club.edges, len(club), loops=False)
    friends, meetings, closed = club.attributes.T
    assert torch.equal(friends, linked.sum(-1).float())
    assert meetings.sum() == 2 * club.meetings.sum()
    a = linked.double()
    triangles = (a @ a @ a).diagonal() / 2
    pairs = friends.double() * (friends.double() - 1) / 2
    expected = torch.where(pairs > 0, triangles / pairs.clamp(min=1), 0.0)
    assert torch.allclose(closed.double(), expected, atol=1e-6)
    assert friends.argmax() == 33


def test_loading_twice_gives_the_same_and_shares_nothing():
    one, two = karate.load(), karate.load()
    assert torch.equal(one.attributes, two.attributes)
    one.attributes.zero_()
    assert two.attributes.any()
