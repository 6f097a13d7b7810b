"""Side by side in one run: our code, plain PyTorch, torch.compile and a re-creation of the peers' loops, on the same work.

Every benchmark first checks that its arms compute the same thing; no time is reported for an arm whose check fails.
"""

WHAT = ("kernels", "step", "sampling", "judges", "audit")
