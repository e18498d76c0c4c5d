"""Sparse tensors of a forward: dense arrays in MLX, with torch's numbers and gradients."""

import pytest

from tests.support import need

need("torch", "mlx.core")

import torch

import torch2mlx


class Graph(torch.nn.Module):
    """A layer over the edges of a graph, some of which are there twice."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(3, 4))

    def forward(self, x, index, value):
        adjacency = torch.sparse_coo_tensor(index, value, (5, 5))
        added = torch.sparse.addmm(x, adjacency, x, beta=0.5)
        both = torch.spmm(adjacency.coalesce(), x)
        return torch.sparse.mm(adjacency, x @ self.weight), added, both, adjacency.to_dense()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("edges", [1, 7])
def test_products_with_a_sparse_matrix(edges):
    torch.manual_seed(0)
    index = torch.randint(0, 5, (2, edges))
    args = torch.randn(5, 3), index, torch.rand(edges)
    made = torch2mlx.translate(Graph(), args)
    assert torch2mlx.verify(made._stored.model, made, args, gradients=True).ok
    with pytest.raises(ValueError, match="which size"):
        made.module(args[0].numpy(), index.numpy() + 5, args[2].numpy())


def test_a_sparse_tensor_of_nothing_is_refused():
    class Empty(torch.nn.Module):
        def forward(self, x):
            return torch.sparse_coo_tensor(size=(2, 3)).to_dense() + x

    with pytest.raises(torch2mlx.errors.UnsupportedOperatorError, match="an empty sparse tensor"):
        torch2mlx.translate(Empty(), torch.ones(2, 3))
