"""The VRRP speaker's place: for now only the messages it exchanges with the agent."""
