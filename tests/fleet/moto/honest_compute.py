"""EC2 Auto Scaling, ECS and EKS as AWS documents them, where moto is kinder.

Each rule names its page below https://docs.aws.amazon.com/.
"""

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import AutoScalingBackend
from moto.ecs.models import EC2ContainerServiceBackend
from moto.eks.models import eks_backends

from settings import LOCK, later

ACCOUNT = "123456789012"


def set_desired_capacity(original):
    """autoscaling/ec2/APIReference/API_SetDesiredCapacity.html: within the minimum and maximum size.
    autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html: an instance is `Pending` before it is
    `InService`."""

    def change(self, group_name, desired_capacity):
        if group_name not in self.autoscaling_groups:
            raise ValidationError("AutoScalingGroup name not found - null")
        group = self.autoscaling_groups[group_name]
        if desired_capacity is not None and not group.min_size <= desired_capacity <= group.max_size:
            raise ValidationError(
                f"New SetDesiredCapacity value {desired_capacity} is outside the limits of {group_name}."
            )
        known = {state.instance.id for state in group.instance_states}
        original(self, group_name, desired_capacity)
        new = [state for state in group.instance_states if state.instance.id not in known]
        for state in new:
            state.lifecycle_state = "Pending"

        def serve():
            with LOCK:
                for state in new:
                    state.lifecycle_state = "InService"

        later("autoscaling_launch", serve)

    return change


def update_service(original):
    """AmazonECS/latest/APIReference/API_UpdateService.html: tasks are started and stopped in the
    background; a new deployment becomes PRIMARY and the former one stays ACTIVE until it is drained
    (API_Deployment.html: rolloutState IN_PROGRESS, COMPLETED, FAILED). moto has one deployment only."""

    def update(self, service_properties):
        force = service_properties.get("force_new_deployment", False)
        cluster = self._get_cluster(service_properties.get("cluster", "default"))
        name = service_properties["service"].split("/")[-1]
        known = self.services.get(f"{cluster.name}:{name}")
        before = known.running_count if known else 0
        service = original(self, service_properties)
        service.running_count, service.pending_count = before, max(0, service.desired_count - before)
        if not service.deployments:
            return service
        primary = service.deployments[0]
        if force:
            service.deployments.append({**primary, "id": primary["id"] + "-old", "status": "ACTIVE"})
        if force or before != service.desired_count:
            primary["rolloutState"] = "IN_PROGRESS"

        def settle():
            with LOCK:
                if primary["rolloutState"] == "FAILED":
                    return
                service.running_count, service.pending_count = service.desired_count, 0
                primary.update(rolloutState="COMPLETED", runningCount=service.desired_count)
                service.deployments[:] = [primary]

        later("ecs_deploy", settle)
        return service

    return update


def set_eks(region, name, status):
    """Puts an EKS cluster into any status (eks/latest/APIReference/API_Cluster.html)."""
    eks_backends[ACCOUNT][region].clusters[name].status = status
    return {}


def install():
    AutoScalingBackend.set_desired_capacity = set_desired_capacity(AutoScalingBackend.set_desired_capacity)
    EC2ContainerServiceBackend.update_service = update_service(EC2ContainerServiceBackend.update_service)
