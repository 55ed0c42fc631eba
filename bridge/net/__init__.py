"""What the two servers and the command line share: sockets, passwords, proxies, the service manager."""
