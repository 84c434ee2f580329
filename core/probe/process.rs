//! Processes: what a container's processes wait for, and who listens.
