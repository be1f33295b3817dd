"""The role and the database that a new cluster has for the application that uses it."""

APPLICATION_USER = "app"
APPLICATION_DATABASE = "app"
