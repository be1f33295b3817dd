"""The role and the database of a new cluster for the application that uses it."""

APPLICATION_USER = "app"
APPLICATION_DATABASE = "app"
