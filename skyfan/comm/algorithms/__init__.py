"""Collectives, written once over `Operation`: the same code runs on every channel.

How an algorithm is chosen (`n` ranks, `size` bytes of one rank's array):

| operation | small                                   | large                                              |
|-----------|-----------------------------------------|----------------------------------------------------|
| barrier   | dissemination, ⌈log₂ n⌉ rounds          |                                                    |
| bcast     | binomial tree                           | size ≥ 512 KiB, n ≥ 4: scatter + ring allgather    |
| gather    | binomial tree                           | values ≥ 32 KiB: straight to the root              |
| scatter   | binomial tree                           | values ≥ 32 KiB: straight from the root            |
| allgather | Bruck's doubling, ⌈log₂ n⌉ rounds       | values ≥ 32 KiB: ring                              |
| reduce    | binomial tree                           | size ≥ 128 KiB, n ≥ 3: ring reduce-scatter, gather |
| allreduce | recursive doubling                      | size ≥ 32 KiB: ring reduce-scatter + allgather     |
| scan      | distance doubling, ⌈log₂ n⌉ rounds      |                                                    |

Custom functions work on whole arrays, so they always take the left column; those that are not associative
are folded in rank order by one rank (reduce, allreduce) or passed along the ranks (scan).
"""
