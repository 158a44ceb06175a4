"""One run: compiled steps, validation, the test, and tests on other rows."""
