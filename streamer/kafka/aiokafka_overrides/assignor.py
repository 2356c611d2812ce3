"""Round robin over the first partitions of a topic, where others were added that are not to be read yet."""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata


def assignor_of_first(count: int) -> type[RoundRobinPartitionAssignor]:
    """An assignor for partitions 0 to `count` - 1 of each topic."""

    class FirstPartitions:
        """Cluster metadata as far as round robin asks for it."""

        def __init__(self, cluster: ClusterMetadata) -> None:
            self._cluster = cluster

        def partitions_for_topic(self, topic: str) -> set[int] | None:
            partitions = self._cluster.partitions_for_topic(topic)
            return partitions and {partition for partition in partitions if partition < count}

    class Assignor(RoundRobinPartitionAssignor):
        @classmethod
        def assign(
            cls, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
        ) -> dict[str, ConsumerProtocolMemberAssignment]:
            assigned: dict[str, ConsumerProtocolMemberAssignment] = super().assign(
                FirstPartitions(cluster), members
            )
            return assigned

    return Assignor
