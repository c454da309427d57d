"""What the tests of the whole program share: processes that end with their test, servers, clients, faults."""
