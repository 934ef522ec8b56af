"""Git repositories: questions to git, scratch repositories, and how a work tree differs from its commit."""
