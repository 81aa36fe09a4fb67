"""Studies in object stores: the driver's copy, the readers' copies, the lease, and what is checked before a trial."""
