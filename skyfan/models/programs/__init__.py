"""The door for exported programs (`.pt2`): a program is data until every part of it is known to be harmless.

`torch.export.load` trusts its file: it unpickles constants and example inputs, evaluates sizes and guards as Python,
resolves any name below `torch`, `math` and `operator` as something to call, generates source from the file's names,
loads compiled libraries, and lays tensors over bytes without asking whether they are there. So it is never given the
file. It is given another archive, made here:

1. `archive` takes the entries that are needed from the ZIP file, within bounds.
2. `fields`, `expressions`, `reading` and `signature` read the JSON, field by field and by type, into the classes of
   `graph`. A field that is not asked for stays behind: metadata, guards, example inputs, module names, versions. Every
   value is renamed; sizes go through a parser of their own; subgraphs are written out where they are called.
3. `checking` holds every call against the list of `operators`, by overload, and its arguments against the operator's
   signature. No argument can be an operator, a graph or an object, and no higher-order operator is left.
4. `tensors` holds stored tensors against the bytes that are there.
5. `exported` writes the new archive from those classes, for converters. Predictions need neither it nor torch's loader:
   `module` makes the calls of the graph itself.

Why this refuses the kinds and not only the cases: a reader, a writer or a process starter has to be *named* for torch
to call it, and the only names that leave this package are the constants of `operators`. There is no second place for a
name: texts are words of a fixed list, metadata is not written, and callees do not exist. A crasher needs an operator
that does not check (each on the list is tried with hostile arguments, see `tests/fuzz/operators.py`) or a tensor that
lies beyond its bytes (`tensors`). Whatever exhausts the reader is bounded: bytes, entries, digits, nesting, values,
length of expressions, powers, sizes of new tensors. Should the list still have a hole, `trial` runs the program first
in a child that cannot write, start programs or connect (`skyfan.sandbox`), and ranks run it on a confined thread.
"""
