"""Which Devices and DeviceModels each node should have, and the DeviceStatus of each Device."""
