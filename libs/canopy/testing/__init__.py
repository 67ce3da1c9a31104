"""What tests of every part share: real servers on free ports, fakes, a clock that stands still."""
