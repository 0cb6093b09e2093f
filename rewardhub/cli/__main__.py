from rewardhub.cli import app

app()
