package main

type checkCommand struct{ fileFlag }

func (checkCommand) Run(runtime) error { return errNo }
