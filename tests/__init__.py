"""The tests of PiCaS: unit, contract, integration and acceptance."""
