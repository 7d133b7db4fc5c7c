"""Zachary's karate club: 34 members, who met whom outside of the club, and the side each took when it split.

The data come with networkx, in the form that Zachary 1977, "An Information Flow Model for Conflict and
Fission in Small Groups", printed them in.
"""

from dataclasses import dataclass

import networkx
import torch
from jaxtyping import Float, Int
from torch import Tensor

ATTRIBUTES = ("friends", "meetings", "friends who are friends")
FACTIONS = ("Mr. Hi", "Officer")


@dataclass(frozen=True)
class Karate:
    """A graph: members 0 to 33, edges between those who met outside of the club.

    edges: (edges, 2), each friendship once, the lower number first. meetings: (edges,), in how many kinds of
    places the two met, from lessons to bars: Zachary's weight of the edge. attributes: (members, 3), numbers
    that describe each member alone, named by ATTRIBUTES: how many friends, how many meetings with all of
    them, and how many of the pairs among the friends are friends themselves (a share, 0 to 1). faction:
    (members,), 0 where the member stayed with the teacher, Mr. Hi (member 0), 1 where with the officer
    (member 33).
    """

    edges: Int[Tensor, "edges 2"]
    meetings: Float[Tensor, " edges"]
    attributes: Float[Tensor, "members 3"]
    faction: Int[Tensor, " members"]

    def __len__(self) -> int:
        """Number of members."""
        return len(self.faction)


def load() -> Karate:
    """The club. Nothing is downloaded."""
    graph = networkx.karate_club_graph()
    members = sorted(graph)
    pairs = sorted((min(pair), max(pair)) for pair in graph.edges)
    friends = [float(graph.degree(i)) for i in members]
    meetings = [float(graph.degree(i, weight="weight")) for i in members]
    closed = [float(networkx.clustering(graph, i)) for i in members]
    return Karate(
        edges=torch.tensor(pairs),
        meetings=torch.tensor([float(graph.edges[pair]["weight"]) for pair in pairs]),
        attributes=torch.tensor([friends, meetings, closed]).T.contiguous(),
        faction=torch.tensor([FACTIONS.index(graph.nodes[i]["club"]) for i in members]),
    )
