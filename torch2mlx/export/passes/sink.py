"""What is made of weights alone moves into the module that uses it."""

from __future__ import annotations

from dataclasses import replace

from torch2mlx.export.ir.nodes import Frame, Node, Program, learn, leaves, operands

_STORED = ("param", "constant")


def with_sunk(program: Program) -> Program:
    """Nodes that read stored tensors only, made where their users are."""
    fixed: set[Node] = set()
    for node in program.nodes:
        reads = list(operands(node))
        if reads and all(r.op in _STORED or r in fixed for r in reads) and len(node.scope) <= 1:
            fixed.add(node)
    fixed -= set(leaves(_plain(program.outputs)))
    users: dict[Node, list[Node]] = {}
    for node in program.nodes:
        for read in operands(node):
            if read in fixed:
                users.setdefault(read, []).append(node)
    sunk = [n for n in reversed(program.nodes) if n in fixed and _sink(n, users.get(n, []))]
    if not sunk:
        return program
    return replace(program, nodes=tuple(_ordered(program.nodes, set(sunk))))


def _plain(outputs: object) -> object:
    return tuple(outputs.values()) if isinstance(outputs, dict) else outputs


def _sink(node: Node, users: list[Node]) -> bool:
    """Gives a node the innermost scope that all its users share; whether that is a deeper one."""
    if not users:
        return False
    shared: tuple[Frame, ...] = users[0].scope
    for user in users[1:]:
        same = 0
        while same < min(len(shared), len(user.scope)) and shared[same] == user.scope[same]:
            same += 1
        shared = shared[:same]
    if len(shared) <= len(node.scope):
        return False
    learn(node, scope=shared)
    return True


def _ordered(nodes: tuple[Node, ...], late: set[Node]) -> list[Node]:
    """The nodes, those of `late` right before the first that reads them."""
    found: dict[Node, None] = {}

    def place(node: Node) -> None:
        for read in operands(node):
            if read in late and read not in found:
                place(read)
        found[node] = None

    for node in nodes:
        if node not in late:
            place(node)
    return list(found)


def with_last_moves_outside(program: Program) -> Program:
    """Transposes of the model's results, made by the model itself and not by its last module: that
    one then is like the others of its class."""
    reads: dict[Node, int] = {}
    for node in program.nodes:
        for read in operands(node):
            reads[read] = reads.get(read, 0) + 1
    results = set(leaves(_plain(program.outputs)))
    late = [n for n in program.nodes if n in results and n.op == "method.transpose"]
    late = [n for n in late if n not in reads and len(n.scope) > 1 and n.args[0].op != "input"]
    if not late:
        return program
    for node in late:
        learn(node, scope=node.scope[:1])
    rest = [node for node in program.nodes if node not in set(late)]
    return replace(program, nodes=(*rest, *late))


def with_first_moves_outside(program: Program) -> Program:
    """Transposes of the model's arguments, made by the model itself and not by its first module."""
    early = [n for n in program.nodes if n.op == "method.transpose" and n.args[0].op == "input"]
    early = [node for node in early if len(node.scope) > 1]
    if not early:
        return program
    for node in early:
        learn(node, scope=node.scope[:1])
    inputs = [node for node in program.nodes if node.op == "input"]
    first = {*inputs, *early}
    rest = [node for node in program.nodes if node not in first]
    return replace(program, nodes=(*inputs, *early, *rest))
