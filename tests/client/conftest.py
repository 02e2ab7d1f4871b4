from tests.cluster.conftest import Cluster, cluster, shared  # fixtures

__all__ = ["Cluster", "cluster", "shared"]
