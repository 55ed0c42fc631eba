"""Code that the servers and the command line share: sockets, passwords, throttling, client identity, systemd."""
