"""Bytes to and from the kernel and the wire: pure codecs and thin sockets; standard library only."""
