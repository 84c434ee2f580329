//! Control groups: limits and counters of a container, read where the kernel keeps them (v1, v2 and hybrid).
