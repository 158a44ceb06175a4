"""Pure algorithms: the fast ways to attend, and what they are made of. They know no variant and no contract."""
