"""The words that all units share: subjects (catalogue), messages (wire), rights (roles), the device API
(devices), times."""
