"""What tests share: pools, what runs in workers, scripts, servers and files."""
