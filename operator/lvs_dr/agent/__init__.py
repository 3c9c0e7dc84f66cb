"""The node side: watches its own objects, programs the kernel, checks real servers and reports."""
