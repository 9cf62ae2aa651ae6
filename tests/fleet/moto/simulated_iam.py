"""A double of IAM's policy simulator, which moto does not have: everything is allowed that a test has not
denied. It judges no policy; it checks the request and answers in the documented form.

IAM/latest/APIReference/API_SimulatePrincipalPolicy.html: PolicySourceArn and ActionNames are required;
ResourceArns is `*` where it is left out; each result has EvalActionName, EvalResourceName and
EvalDecision (`allowed`, `explicitDeny`, `implicitDeny`); error NoSuchEntity, InvalidInput.
"""

from moto.core.responses import ActionResult
from moto.iam.exceptions import InvalidInput
from moto.iam.responses import IamResponse

# Actions that are not allowed, each with its decision.
DENIED = {}


def simulate_principal_policy(self):
    source = self._get_param("PolicySourceArn")
    actions = self._get_param("ActionNames", [])
    resources = self._get_param("ResourceArns", ["*"])
    if not source or not actions:
        raise InvalidInput("PolicySourceArn and ActionNames are required")
    results = [
        {"EvalActionName": action, "EvalResourceName": resource, "EvalDecision": DENIED.get(action, "allowed")}
        for action in actions
        for resource in resources
    ]
    return ActionResult({"EvaluationResults": results, "IsTruncated": False})


def deny(action, decision):
    """From now on the simulator decides so of an action."""
    if decision not in ("explicitDeny", "implicitDeny"):
        raise ValueError(f"no decision: {decision}")
    DENIED[action] = decision
    return {}


def install():
    IamResponse.simulate_principal_policy = simulate_principal_policy
