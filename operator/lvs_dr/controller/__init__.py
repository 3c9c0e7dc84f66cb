"""The Kubernetes side: watches and store, the loop that compiles and writes, leader, status."""
