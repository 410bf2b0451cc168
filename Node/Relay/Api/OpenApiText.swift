let openApiText = ""
