"""A Fleet and its plan -> Kubernetes objects. Forbidden here: deciding a number that a plan or a policy knows."""
