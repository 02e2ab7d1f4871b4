"""The deterministic simulator: real nodes on virtual machines, every failure replayable from its seed.

python -m ringwise.sim --seeds 200          see `__main__` for more

scheduler, trace           virtual time, and what happened in it
network, disk, worker, engine   a world that loses, doubles, delays, tears, slows down and rots
machine, connection, watched    the node's shell in that world; what a node does is written down for the checks
workload, nemesis          clients, and the adversary
history, model, checker    what clients were told, what it must have meant, and what may never be
simulator, pairs           one history from one seed; all pairs of R and W
"""
