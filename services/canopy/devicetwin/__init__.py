"""DeviceTwin: the twins of a node's devices, and KubeEdge's `$hw/...` contract over the leaf's MQTT gateway."""
