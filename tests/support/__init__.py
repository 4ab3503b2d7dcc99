"""What the tests share: programs to run, processes to start and kill, conditions to wait for."""
